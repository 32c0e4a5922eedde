import lightning
import torch
import torch.nn.functional as F

from toy import loaders, mlp


class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def training_step(self, batch, i):
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def validation_step(self, batch, i):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.net(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


if __name__ == "__main__":
    train, val = loaders()
    trainer = lightning.Trainer(max_epochs=8, accelerator="cpu", logger=False)
    trainer.fit(Net(), train, val)
