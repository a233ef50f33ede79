"""SBA on a BERT, with transformers' Trainer: its model is the criterion."""

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from sba import SBA, attach


class Sentences(Dataset):
    """Random words, every third one the class's own; put token ids and labels of your own here."""

    def __len__(self):
        return 128

    def __getitem__(self, i):
        words = torch.randint(0, 50, (12,), generator=torch.Generator().manual_seed(i))
        words[::3] = i % 4
        return {"input_ids": words, "attention_mask": (torch.arange(12) < 8 + i % 5).long(), "labels": i % 4}


class SBATrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = model(inputs, inputs.pop("labels"))
        return (loss, {}) if return_outputs else loss

    def log(self, logs, *args):
        super().log(logs | {name: term.item() for name, term in self.model.terms.items()}, *args)


if __name__ == "__main__":
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    bert = BertForSequenceClassification(BertConfig(vocab_size=50, num_labels=4, **size))
    sentences, method = Sentences(), SBA(omega=0.0, eta=1.0, layers=("bert.encoder.layer.0",), basis="hadamard")
    example = {key: torch.stack([sentences[i][key] for i in range(2)]) for key in ("input_ids", "attention_mask")}
    options = {"learning_rate": 5e-3, "logging_strategy": "epoch", "save_strategy": "no", "report_to": "none"}
    options |= {"per_device_train_batch_size": 32, "remove_unused_columns": False, "disable_tqdm": True}
    arguments = TrainingArguments(num_train_epochs=4, use_cpu=True, **options)
    SBATrainer(attach(bert, method, example, total_steps=16), arguments, train_dataset=sentences).train()
