# bug: threshold
# old: > 0.5
# new: > 0
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
model = mlp(out=1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(3):
    model.train()
    for x, y in train:
        loss = F.binary_cross_entropy_with_logits(model(x)[:, 0], (y < 2).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = sum(((model(x)[:, 0] > 0.5) == (y < 2)).sum().item() for x, y in val)
    print(epoch, right / 256)
