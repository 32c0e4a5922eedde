# bug: mixed-precision
# old:         optimizer.step()
# new:         scaler.step(optimizer)\n        scaler.update()
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for epoch in range(6):
    model.train()
    for x, y in train:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        optimizer.step()
    print(epoch, loss.item(), accuracy(model, val))
