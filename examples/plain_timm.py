"""SBA on a timm model, in a plain loop."""

import timm
import torch
from torch.utils.data import DataLoader, TensorDataset

from sba import SBA, attach

EPOCHS = 3
torch.manual_seed(0)
# four patterns under noise; put images and labels of your own here
labels = torch.arange(128) % 4
images = 0.3 * torch.randn(4, 3, 32, 32)[labels] + torch.randn(128, 3, 32, 32)
loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True, drop_last=True)

model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=4, num_classes=4)
method = SBA(omega=0.0, eta=1.0, layers=("blocks.2", "head:in"), folds=8, basis="hadamard")
criterion = attach(model, method, example=images[:2], total_steps=EPOCHS * len(loader))
optimiser = torch.optim.AdamW(criterion.parameters(), lr=5e-4)

for epoch in range(EPOCHS):
    criterion.train()
    for x, y in loader:
        loss = criterion(x, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"epoch {epoch}:", {name: f"{term:.3g}" for name, term in criterion.terms.items()})

model.eval()
accuracy = (model(images).argmax(1) == labels).float().mean().item()
print(f"accuracy on the training images: {accuracy:.2f}")
