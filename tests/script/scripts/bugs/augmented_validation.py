# bug: changing-validation
# old: Noisy(VAL, 0.3)
# new: Noisy(VAL, 0.0)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


class Noisy(torch.utils.data.Dataset):
    def __init__(self, data, noise):
        self.data, self.noise = data, noise

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        x, y = self.data[index]
        return x + self.noise * torch.randn(20), y


train = torch.utils.data.DataLoader(Noisy(TRAIN, 0.3), 32, shuffle=True)
val = torch.utils.data.DataLoader(Noisy(VAL, 0.3), 64)
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(5):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, accuracy(model, val))
