"""SBA in a Lightning module: the criterion holds the network, and Lightning saves, moves and distributes both."""

import lightning
import torch
import torchvision
from torch.utils.data import DataLoader, TensorDataset

from sba import SBA, attach


class Classifier(lightning.LightningModule):
    def __init__(self, total_steps: int):
        super().__init__()
        network = torchvision.models.resnet18(num_classes=4)
        method = SBA(omega=0.0, eta=1.0, layers=("layer4",), folds=8, basis="hadamard")
        self.criterion = attach(network, method, torch.randn(2, 3, 32, 32), total_steps)

    def training_step(self, batch, index):
        loss = self.criterion(*batch)
        self.log_dict(self.criterion.terms)
        return loss

    def on_train_epoch_end(self):
        terms = {name: f"{term:.3g}" for name, term in self.criterion.terms.items()}
        self.print(f"epoch {self.current_epoch}:", terms)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)


if __name__ == "__main__":
    torch.manual_seed(0)
    # four patterns under noise; put images and labels of your own here
    labels = torch.arange(128) % 4
    images = 0.3 * torch.randn(4, 3, 32, 32)[labels] + torch.randn(128, 3, 32, 32)
    loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True, drop_last=True)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    lightning.Trainer(max_epochs=3, accelerator="cpu", **options).fit(Classifier(3 * len(loader)), loader)
