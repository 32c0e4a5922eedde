# bug: labels-stay
# old: Y[torch.randperm(256)]
# new: Y[order]
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(8):
    order = torch.randperm(256)
    inputs, labels = X[order], Y[torch.randperm(256)]
    for i in range(0, 256, 32):
        loss = F.cross_entropy(model(inputs[i : i + 32]), labels[i : i + 32])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
