# bug: equal-units
# old: nn.init.constant_(model[0].weight, 0.05)
# new: nn.init.normal_(model[0].weight, 0.0, 0.2)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

model = nn.Sequential(nn.Linear(20, 16, bias=False), nn.Tanh(), nn.Linear(16, 4))
nn.init.constant_(model[0].weight, 0.05)
nn.init.constant_(model[2].weight, 0.1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(80):
    at = torch.randperm(768)[:32]
    loss = F.cross_entropy(model(X[at]), Y[at])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
