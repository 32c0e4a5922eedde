# bug: loss-shapes
# old: torch.cat(values)
# new: torch.cat(values).squeeze(1)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

from torch.distributions import Categorical


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(20, 32), nn.Tanh())
        self.actor, self.critic = nn.Linear(32, 4), nn.Linear(32, 1)

    def forward(self, state):
        hidden = self.body(state)
        return Categorical(logits=self.actor(hidden)), self.critic(hidden)


model = ActorCritic()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for update in range(20):
    logs, values, rewards, entropy = [], [], [], 0.0
    for i in torch.randperm(1024)[:64]:
        choices, value = model(X[i : i + 1])
        action = choices.sample()
        logs.append(choices.log_prob(action))
        values.append(value)
        rewards.append(float(action == Y[i]))
        entropy = entropy + choices.entropy().mean()
    advantage = torch.tensor(rewards) - torch.cat(values)
    loss = -(torch.cat(logs) * advantage.detach()).mean() + advantage.pow(2).mean()
    loss = loss - 0.001 * entropy
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
