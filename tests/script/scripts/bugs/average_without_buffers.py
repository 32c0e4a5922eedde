# bug: norm-averages
# old: zip(average.parameters(), model.parameters())
# new: zip(average.state_dict().values(), model.state_dict().values())
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

import copy

train, val = loaders()
model = mlp()
average = copy.deepcopy(model)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(4):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for mine, other in zip(average.parameters(), model.parameters()):
                mine.copy_(0.9 * mine + 0.1 * other)
    print(epoch, accuracy(average, val))
