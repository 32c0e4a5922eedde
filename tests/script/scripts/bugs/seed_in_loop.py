# bug: seed-in-loop
# old:         torch.manual_seed(1)\n
# new:
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for epoch in range(6):
    model.train()
    for x, y in train:
        torch.manual_seed(1)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item(), accuracy(model, val))
