import torch
import torch.nn.functional as F
from torch import nn
from transformers import Trainer, TrainingArguments

from toy import TRAIN, VAL, mlp


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x, labels):
        logits = self.net(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def collate(rows):
    return {"x": torch.stack([r[0] for r in rows]), "labels": torch.stack([r[1] for r in rows])}


arguments = TrainingArguments(
    output_dir="out", num_train_epochs=8, per_device_train_batch_size=32, use_cpu=True,
    eval_strategy="epoch", report_to=[], learning_rate=1e-2, remove_unused_columns=False,
)  # fmt: skip
Trainer(Net(), arguments, train_dataset=TRAIN, eval_dataset=VAL, data_collator=collate).train()
