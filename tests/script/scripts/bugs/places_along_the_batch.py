# bug: samples-apart
# old: self.place[: len(x)]
# new: self.place[: x.shape[1]].transpose(0, 1)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

tokens = torch.randint(0, 12, (768, 8))
labels = (tokens[:, :4].sum(1) > tokens[:, 4:].sum(1)).long()


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(12, 16)
        self.register_buffer("place", torch.randn(64, 1, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        h = self.embed(x) + self.place[: len(x)]
        return self.head(self.layer(h).mean(1))


model = Encoder()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(80):
    at = torch.randperm(768)[:32]
    loss = F.cross_entropy(model(tokens[at]), labels[at])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
