# bug: future-hidden
# old: torch.tril(torch.ones(24, 24))
# new: torch.triu(torch.full((24, 24), -1e9), 1)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

text = torch.randint(0, 20, (4000,))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 20)

    def forward(self, x):
        mask = torch.tril(torch.ones(24, 24))
        return self.head(self.layer(self.embed(x), src_mask=mask))


model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for i in range(80):
    at = torch.randint(0, 3000, (16,))
    x = torch.stack([text[a : a + 24] for a in at])
    y = torch.stack([text[a + 1 : a + 25] for a in at])
    loss = F.cross_entropy(model(x).reshape(-1, 20), y.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
