# bug: optimizer-parameters
# old: # the new head
# new: optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


def fit(model, optimizer, epochs):
    for _ in range(epochs):
        for x, y in train:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


train, val = loaders()
model = mlp()
fit(model, torch.optim.Adam(model.parameters(), lr=1e-2), 1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
model[-1] = nn.Linear(32, 4)
# the new head
fit(model, optimizer, 4)
