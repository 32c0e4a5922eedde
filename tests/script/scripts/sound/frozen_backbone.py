import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

backbone = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU()).requires_grad_(False)
head = nn.Linear(32, 4)
optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
train, val = loaders()
for epoch in range(5):
    backbone.eval()
    for x, y in train:
        optimizer.zero_grad()
        F.cross_entropy(head(backbone(x)), y).backward()
        optimizer.step()
    print(accuracy(nn.Sequential(backbone, head), val))
