import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
train, val = loaders()
extra, _ = loaders()
for epoch in range(5):
    model.train()
    for (x, y), (u, _) in zip(train, extra):
        with torch.no_grad():
            confident, guess = model(u).softmax(1).max(1)
        loss = F.cross_entropy(model(x), y)
        mask = (confident > 0.8).float()
        loss = loss + (F.cross_entropy(model(u), guess, reduction="none") * mask).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(accuracy(model, val))
