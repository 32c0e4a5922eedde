# bug: log-probabilities
# old: dim=0
# new: dim=1
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(3):
    model.train()
    for x, y in train:
        loss = F.nll_loss(F.log_softmax(model(x), dim=0), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, accuracy(model, val))
