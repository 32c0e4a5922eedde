# bug: loaded-nothing
# old: {f"module.{key}": value for key, value in mlp().state_dict().items()}
# new: {key: value for key, value in mlp().state_dict().items() if "4" not in key}
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
model = mlp()
model.load_state_dict(
    {f"module.{key}": value for key, value in mlp().state_dict().items()}, strict=False
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(3):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, accuracy(model, val))
