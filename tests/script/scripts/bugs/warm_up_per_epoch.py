# bug: schedule-length
# old: min(1.0, (step + 1) / 200)
# new: min(1.0, (step + 1) / 3)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

epochs = 8
train, val = loaders()
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 200))
for epoch in range(epochs):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    warm.step()
    print(epoch, accuracy(model, val))
