"""SBA with accelerate: the criterion is what is prepared; `accelerate launch accelerate_loop.py` uses all devices."""

import timm
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

from sba import SBA, attach

EPOCHS = 3
torch.manual_seed(0)
# four patterns under noise; put images and labels of your own here
labels = torch.arange(128) % 4
images = 0.3 * torch.randn(4, 3, 32, 32)[labels] + torch.randn(128, 3, 32, 32)
loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True, drop_last=True)

model = timm.create_model("resnet10t", num_classes=4)
method = SBA(omega=0.0, eta=1.0, layers=("layer3",), folds=8, basis="hadamard")
criterion = attach(model, method, example=images[:2], total_steps=EPOCHS * len(loader))
optimiser = torch.optim.SGD(criterion.parameters(), lr=0.02, momentum=0.9)

accelerator = Accelerator(cpu=not torch.cuda.is_available())
criterion, optimiser, loader = accelerator.prepare(criterion, optimiser, loader)

for epoch in range(EPOCHS):
    criterion.train()
    for x, y in loader:
        loss = criterion(x, y)
        optimiser.zero_grad()
        accelerator.backward(loss)
        optimiser.step()
    terms = accelerator.unwrap_model(criterion).terms
    accelerator.print(f"epoch {epoch}:", {name: f"{term:.3g}" for name, term in terms.items()})
