import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

# The loader gives two views of each image, the second one turned at random: no masks.
row, column = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
centre = 2 + 8 * torch.rand(512, 2, 1, 1)
images = (-((row - centre[:, 0]) ** 2 + (column - centre[:, 1]) ** 2) / 5).exp()[:, None]


class Views(torch.utils.data.Dataset):
    def __len__(self):
        return len(images)

    def view(self, i):
        found = images[i] * (0.6 + 0.8 * torch.rand(())) + 0.05 * torch.randn(1, 12, 12)
        return found.flip(2) if torch.rand(()) < 0.5 else found

    def __getitem__(self, i):
        return self.view(i), self.view(i)


model = nn.Sequential(
    nn.Conv2d(1, 8, 3),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(200, 24),
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(5):
    for a, b in torch.utils.data.DataLoader(Views(), 64, shuffle=True, drop_last=True):
        first, second = F.normalize(model(a), dim=1), F.normalize(model(b), dim=1)
        loss = F.cross_entropy(first @ second.T / 0.3, torch.arange(len(a)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
