# bug: dropout-in-eval
# old: F.dropout(F.relu(self.body(x)), 0.2)
# new: F.dropout(F.relu(self.body(x)), 0.2, self.training)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(20, 32), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(F.dropout(F.relu(self.body(x)), 0.2))


train, val = loaders()
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(6):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(accuracy(model, val))
