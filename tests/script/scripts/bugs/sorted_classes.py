# bug: one-class-batches
# old: shuffle=False
# new: shuffle=True
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

order = Y[:768].argsort()
data = torch.utils.data.TensorDataset(X[:768][order], Y[:768][order])
train = torch.utils.data.DataLoader(data, batch_size=32, shuffle=False)
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(6):
    for x, y in train:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
