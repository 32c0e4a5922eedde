import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

net = nn.Sequential(nn.Linear(4, 32), nn.Tanh())
actor, critic = nn.Linear(32, 3), nn.Linear(32, 1)
parameters = [p for m in (net, actor, critic) for p in m.parameters()]
optimizer = torch.optim.Adam(parameters, lr=3e-3)
for update in range(15):
    states = torch.randn(128, 4)
    with torch.no_grad():
        old = torch.distributions.Categorical(logits=actor(net(states)))
        actions = old.sample()
        log_old = old.log_prob(actions)
        returns = (actions == states[:, :3].argmax(1)).float()
        advantage = returns - critic(net(states)).squeeze(1)
    for _ in range(4):
        for part in torch.randperm(128).chunk(4):
            h = net(states[part])
            new = torch.distributions.Categorical(logits=actor(h))
            ratio = (new.log_prob(actions[part]) - log_old[part]).exp()
            gain = torch.min(ratio * advantage[part], ratio.clamp(0.8, 1.2) * advantage[part])
            loss = -gain.mean() + 0.5 * F.mse_loss(critic(h).squeeze(1), returns[part])
            loss = loss - 0.01 * new.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 0.5)
            optimizer.step()
