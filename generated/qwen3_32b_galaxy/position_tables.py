"""What depends on nothing but the position: the model's own computation, run once on the host for every position."""

import torch

from . import model_config as cfg

TRACED_USERS = 32  # positions computed at a time, as in the captured step

INV_FREQ = torch.tensor(
    [
        1.0,
        0.8058422207832336,
        0.6493816375732422,
        0.5232991576194763,
        0.4216965138912201,
        0.33982083201408386,
        0.2738419771194458,
        0.22067339718341827,
        0.17782793939113617,
        0.14330126345157623,
        0.11547820270061493,
        0.09305720031261444,
        0.07498941570520401,
        0.0604296438395977,
        0.04869675263762474,
        0.03924189880490303,
        0.03162277862429619,
        0.025482967495918274,
        0.02053525112569332,
        0.016548171639442444,
        0.01333521492779255,
        0.010746078565716743,
        0.00865964312106371,
        0.006978305988013744,
        0.005623413249850273,
        0.004531583748757839,
        0.003651741426438093,
        0.002942727180197835,
        0.0023713738191872835,
        0.001910952851176262,
        0.0015399265103042126,
        0.0012409378541633487,
        0.0010000000474974513,
        0.0008058422245085239,
        0.0006493816617876291,
        0.0005232990952208638,
        0.00042169648804701865,
        0.0003398208355065435,
        0.00027384195709601045,
        0.00022067342069931328,
        0.00017782794020604342,
        0.00014330126577988267,
        0.00011547819303814322,
        9.305720595875755e-05,
        7.498942431993783e-05,
        6.042963650543243e-05,
        4.869675467489287e-05,
        3.92418987757992e-05,
        3.162277425872162e-05,
        2.5482966520939954e-05,
        2.0535249859676696e-05,
        1.6548170606256463e-05,
        1.333521413471317e-05,
        1.0746078260126524e-05,
        8.659643754072022e-06,
        6.978306373639498e-06,
        5.62341347176698e-06,
        4.531583726929966e-06,
        3.651741280918941e-06,
        2.9427271783788456e-06,
        2.3713737391517498e-06,
        1.910952960315626e-06,
        1.5399265294036013e-06,
        1.2409377632138785e-06,
    ],
    dtype=torch.float32,
).reshape((64,))


def rows(table):
    """All rows of a table, [1, 1, MAX_SEQ_LEN, size]."""
    steps = -(-cfg.MAX_SEQ_LEN // TRACED_USERS)
    positions = torch.arange(steps * TRACED_USERS).reshape(steps, TRACED_USERS, 1)
    found = torch.cat([table(step) for step in positions])
    return found.reshape(1, 1, steps * TRACED_USERS, -1)[:, :, : cfg.MAX_SEQ_LEN]


def cos(position_ids):
    """[users, 1] -> [users, 1, size]"""
    unsqueeze = position_ids.unsqueeze(2)
    cast = unsqueeze.to(torch.float32)
    mul = cast.mul(INV_FREQ)
    both_halves = torch.cat([mul, mul], -1)
    cos = both_halves.cos()
    return cos


def sin(position_ids):
    """[users, 1] -> [users, 1, size]"""
    unsqueeze = position_ids.unsqueeze(2)
    cast = unsqueeze.to(torch.float32)
    mul = cast.mul(INV_FREQ)
    both_halves = torch.cat([mul, mul], -1)
    sin = both_halves.sin()
    return sin
