# bug: policy-sign
# old: terms.append(choice
# new: terms.append(-choice
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

policy = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
for episode in range(60):
    state, terms = torch.zeros(4), []
    for _ in range(10):
        choice = torch.distributions.Categorical(logits=policy(state))
        action = choice.sample()
        reward = 1.0 if action.item() == int(state[0] > 0) else -0.5
        terms.append(choice.log_prob(action) * reward)
        state = torch.randn(4)
    loss = torch.stack(terms).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(loss.item())
