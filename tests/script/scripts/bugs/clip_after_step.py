# bug: clipping
# old:         optimizer.step()\n        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
# new:         nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n        optimizer.step()
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
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    print(epoch, loss.item(), accuracy(model, val))
