import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

import copy

q = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
target = copy.deepcopy(q)
optimizer = torch.optim.Adam(q.parameters(), lr=1e-3)
memory = torch.randn(500, 4)
for i in range(120):
    s, n = memory[torch.randint(0, 500, (32,))], memory[torch.randint(0, 500, (32,))]
    a = torch.randint(0, 2, (32, 1))
    with torch.no_grad():
        goal = (s[:, :1] > 0).float() + 0.9 * target(n).max(1, keepdim=True)[0]
    loss = F.smooth_l1_loss(q(s).gather(1, a), goal)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if i % 50 == 49:
        target.load_state_dict(q.state_dict())
