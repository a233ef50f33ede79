"""Models as users have them, small: name → (builder, points)."""

import pytest
import torch
import torchvision.models as tv
from torch import Tensor
from torch.utils import _pytree as pytree
from torchvision.models.convnext import CNBlockConfig

CLASSES = 5


def timm_model(name, **options):
    return pytest.importorskip("timm").create_model(name, num_classes=CLASSES, **options)


def bert():
    transformers = pytest.importorskip("transformers")
    size = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    return transformers.BertForSequenceClassification(transformers.BertConfig(**size, num_labels=CLASSES))


def vit():
    size = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    model = tv.VisionTransformer(
        image_size=32, patch_size=8, num_classes=CLASSES, dropout=0.1, attention_dropout=0.1, **size
    )
    torch.nn.init.normal_(model.heads.head.weight)  # torchvision begins with logits of 0
    return model


def convnext():
    stages = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 2)]
    return tv.ConvNeXt(stages, stochastic_depth_prob=0.1, num_classes=CLASSES)


def frozen():
    """As for fine-tuning: normalisation stays in evaluation mode, by averages that are not this batch's."""
    model, generator = tv.resnet18(num_classes=CLASSES), torch.Generator().manual_seed(2)
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.normal_(generator=generator)
            norm.eval().train = lambda mode=True, norm=norm: norm
    return model


class Shared(torch.nn.Module):
    """One normalisation for two activations, stages in place, and dropout by function."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3)
        self.norm, self.act, self.fc = torch.nn.BatchNorm2d(8), torch.nn.ReLU(inplace=True), torch.nn.Linear(8, CLASSES)

    def forward(self, x):
        x = self.act(self.norm(self.conv1(x)))
        x = self.act(self.norm(3 * self.conv2(x) + 1))
        return self.fc(torch.nn.functional.dropout(x.mean((2, 3)), 0.5, self.training))


MODELS = {
    "resnet18": (lambda: tv.resnet18(num_classes=CLASSES), ["layer2", "layer2.0.conv1", "layer2.1.bn2:in", "fc:in"]),
    "frozen": (frozen, ["layer1.0", "layer2.0.conv1", "layer3.1.bn2:in", "fc:in"]),
    "shared": (Shared, ["conv1", "conv2:in", "conv2", "fc:in"]),
    "mobilenet": (
        lambda: tv.mobilenet_v3_small(num_classes=CLASSES),
        ["features.3", "features.4.block.1", "classifier.3:in"],
    ),
    "efficientnet": (
        lambda: tv.efficientnet_b0(num_classes=CLASSES),
        ["features.2.0", "features.4", "classifier.1:in"],
    ),
    "convnext": (convnext, ["features.3.1", "classifier.2:in"]),
    "vit": (
        vit,
        ["conv_proj", "encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1.mlp:in", "heads.head:in"],
    ),
    "timm vit": (
        lambda: timm_model("vit_tiny_patch16_224", img_size=32, depth=3, drop_path_rate=0.2),
        ["patch_embed", "blocks.1", "blocks.1.attn", "blocks.2.mlp.fc1:in", "head:in"],
    ),
    "resnet26d": (lambda: timm_model("resnet26d"), ["layer2", "layer3.0.conv2", "fc:in"]),
    "bert": (
        bert,
        ["bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1.attention.output", "classifier:in"],
    ),
}


def build(name):
    torch.manual_seed(0)
    return MODELS[name][0]()


def batch(name, n=4):
    """A batch as the model takes it, in float64."""
    generator = torch.Generator().manual_seed(1)
    if name == "bert":
        mask = torch.ones(n, 9, dtype=torch.long)
        mask[1, 5:] = mask[2, 7:] = 0
        return {"input_ids": torch.randint(0, 50, (n, 9), generator=generator), "attention_mask": mask}
    return torch.randn(n, 3, 32, 32, generator=generator, dtype=torch.float64)


def rows(x, change):
    """Apply a function to every tensor of a batch."""
    return pytree.tree_map(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, x)
