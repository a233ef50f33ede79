"""SBA in several processes: wrap the criterion, not the network. `torchrun --nproc-per-node 2 ddp.py`."""

import torch
import torch.distributed as dist
import torchvision
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from sba import SBA, attach

EPOCHS = 3
dist.init_process_group("gloo")
torch.manual_seed(0)
# four patterns under noise; put images and labels of your own here
labels = torch.arange(128) % 4
images = 0.3 * torch.randn(4, 3, 32, 32)[labels] + torch.randn(128, 3, 32, 32)
sampler = DistributedSampler(TensorDataset(images, labels))
loader = DataLoader(sampler.dataset, batch_size=16, sampler=sampler)

network = torchvision.models.resnet18(num_classes=4)
method = SBA(omega=0.0, eta=1.0, layers=("layer4",), folds=8, basis="hadamard")
criterion = attach(network, method, example=images[:2], total_steps=EPOCHS * len(loader))
wrapped = DistributedDataParallel(criterion)
optimiser = torch.optim.SGD(wrapped.parameters(), lr=0.02, momentum=0.9)

for epoch in range(EPOCHS):
    wrapped.train()
    sampler.set_epoch(epoch)
    for x, y in loader:
        loss = wrapped(x, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    if dist.get_rank() == 0:
        print(f"epoch {epoch}:", {name: f"{term:.3g}" for name, term in criterion.terms.items()})
dist.destroy_process_group()
