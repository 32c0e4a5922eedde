import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

model = mlp(norm=False)
train, val = loaders()
for p in model[0].parameters():
    p.requires_grad = False
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
for epoch in range(5):
    if epoch == 2:
        for p in model[0].parameters():
            p.requires_grad = True
        optimizer.add_param_group({"params": list(model[0].parameters()), "lr": 1e-4})
    model.train()
    for x, y in train:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    print(accuracy(model, val))
