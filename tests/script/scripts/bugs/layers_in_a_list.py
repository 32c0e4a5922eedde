# bug: optimizer-parameters
# old: [nn.Linear(20, 20), nn.Linear(20, 20)]
# new: nn.ModuleList([nn.Linear(20, 20), nn.Linear(20, 20)])
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = [nn.Linear(20, 20), nn.Linear(20, 20)]
        self.head = nn.Linear(20, 4)

    def forward(self, x):
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.head(x)


train, val = loaders()
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(6):
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
