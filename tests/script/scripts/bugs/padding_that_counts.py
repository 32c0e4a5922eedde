# bug: padding-ignored
# old: y.reshape(-1))
# new: y.reshape(-1), ignore_index=0)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

text = torch.randint(1, 20, (512, 20))
for row in text:
    row[int(torch.randint(6, 16, ())) :] = 0
model = nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 20))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(60):
    rows = text[torch.randperm(512)[:32]]
    x, y = rows[:, :-1], rows[:, 1:]
    loss = F.cross_entropy(model(x).reshape(-1, 20), y.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
