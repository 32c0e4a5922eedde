import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

# The four inputs of exclusive or, many times, and one network that is asked twice in a step.
corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
inputs, wanted = corners.repeat(16, 1), torch.tensor([0, 1, 1, 0]).repeat(16)
model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(120):
    loss = F.cross_entropy(model(inputs), wanted) + 1e-3 * model(inputs).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
