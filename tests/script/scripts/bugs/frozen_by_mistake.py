# bug: frozen-weights
# old: parameter.dim() == 1
# new: True
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
model = mlp()
for parameter in model.parameters():
    parameter.requires_grad = parameter.dim() == 1
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(3):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, accuracy(model, val))
