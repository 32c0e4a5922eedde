# bug: argmax-axis
# old: argmax(0)
# new: argmax(1)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders(batch=48)
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(3):
    model.train()
    for x, y in train:
        output = model(x)
        loss = F.cross_entropy(output, y)
        print(float((output.argmax(0)[:4] == y[:4]).float().mean()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, accuracy(model, val))
