# bug: restored-alias
# old: best = model.state_dict()
# new: best = copy.deepcopy(model.state_dict())
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

import copy

for epoch in range(3):
    model.train()
    for x, y in train:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item(), accuracy(model, val))
    best = model.state_dict()
model.load_state_dict(best)
