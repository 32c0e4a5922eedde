# bug: samples-apart
# old: nn.GRU(4, 16)
# new: nn.GRU(4, 16, batch_first=True)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.read = nn.GRU(4, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.read(x.reshape(-1, 5, 4))[0][:, -1])


model = Reader()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(3):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, accuracy(model, val))
