# bug: same-batch
# old: torch.Generator().manual_seed(0)
# new: None
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


def draw():
    chosen = torch.randint(768, (32,), generator=torch.Generator().manual_seed(0))
    return X[chosen], Y[chosen]


model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(120):
    x, y = draw()
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
