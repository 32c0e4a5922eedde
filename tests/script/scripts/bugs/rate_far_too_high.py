# bug: learning-rate
# old: lr=3.0
# new: lr=3e-3
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
model = nn.Sequential(
    nn.Linear(20, 64),
    nn.ReLU(),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 4),
)
optimizer = torch.optim.Adam(model.parameters(), lr=3.0)
for epoch in range(5):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, accuracy(model, val))
