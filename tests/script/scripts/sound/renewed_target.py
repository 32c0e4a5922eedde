import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


# Q-learning: the target network is a copy that is renewed every 500 steps.
class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.online = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))
        self.target = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))
        self.target.requires_grad_(False)
        self.copy()

    def copy(self):
        self.target.load_state_dict(self.online.state_dict())

    def forward(self, state, action, reward, after):
        with torch.no_grad():
            wanted = reward + 0.9 * self.target(after).max(1).values
        return F.smooth_l1_loss(self.online(state).gather(1, action[:, None])[:, 0], wanted)


agent = Agent()
optimizer = torch.optim.Adam(agent.online.parameters(), lr=1e-3)
for step in range(600):
    state = torch.randn(32, 20)
    action = torch.randint(0, 4, (32,))
    reward = (state[:, :4].argmax(1) == action).float()
    loss = agent(state, action, reward, state + 0.1 * torch.randn_like(state))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 500 == 499:
        agent.copy()
