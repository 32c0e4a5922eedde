"""The network as a LightningModule."""

from typing import Any

import lightning
import torch
from common import MOMENTUM, network
from torch.nn import functional as F


class Classifier(lightning.LightningModule):
    """Cross-entropy, SGD with momentum."""

    def __init__(
        self, channels: int, size: int, classes: int, lr: float, weight_decay: float
    ) -> None:
        super().__init__()
        self.model = network(channels, size, classes)
        self.lr, self.weight_decay = lr, weight_decay

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.model(x)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        """The loss of a batch."""
        loss = F.cross_entropy(self.model(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        """The accuracy of a batch."""
        self.log("val_acc", (self.model(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with the rate that may be changed by a finder."""
        return torch.optim.SGD(
            self.parameters(), lr=self.lr, momentum=MOMENTUM, weight_decay=self.weight_decay
        )
