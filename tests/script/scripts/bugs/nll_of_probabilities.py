# bug: loss-input
# old: F.softmax(model(x), 1)
# new: F.log_softmax(model(x), 1)
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
        loss = F.nll_loss(F.softmax(model(x), 1), y)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item(), accuracy(model, val))
