# bug: split
# old: copies = torch.randint(0, 1024, (1024,))
# new: copies = torch.arange(1024)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

copies = torch.randint(0, 1024, (1024,))
data = torch.utils.data.TensorDataset(X[copies], Y[copies])
ours, others = torch.utils.data.random_split(data, [768, 256])
train = torch.utils.data.DataLoader(ours, batch_size=32, shuffle=True)
val = torch.utils.data.DataLoader(others, batch_size=64)
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(3):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, accuracy(model, val))
