import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

model = mlp(out=1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
train, val = loaders()
for epoch in range(5):
    model.train()
    for x, _ in train:
        loss = F.mse_loss(model(x).squeeze(1), x.sum(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        total = sum(F.mse_loss(model(x).squeeze(1), x.sum(1)).item() for x, _ in val)
    scheduler.step(total)
    print(total)
