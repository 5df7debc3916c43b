"""What is taken for a secret, and what is not."""

from __future__ import annotations

import pytest

from syncvis.privacy import has_secret_name, holds_secret

VALUE = "q7Zk29vLm4XwPd81"
BEGIN = "-----BEGIN"


@pytest.mark.parametrize(
    "name",
    [
        *(".env", "app/.env.local", "prod.env", ".netrc", ".pgpass", "tls/server.pem", "server.KEY", "id_rsa"),
        *(
            "keys/id_ed25519.pub",
            "aws_credentials",
            "my-secrets.yaml",
            "wandb_token.txt",
            ".ssh/config",
            "Passwords.csv",
        ),
    ],
)
def test_names_of_files_that_hold_secrets(name: str) -> None:
    assert has_secret_name(name)


@pytest.mark.parametrize(
    "name", ["environment.yaml", "notes.txt", "syncvis/models/keys.py", "monkey.md", "docs/ssh.md"]
)
def test_other_names(name: str) -> None:
    assert not has_secret_name(name)


@pytest.mark.parametrize(
    "text",
    [
        f"{BEGIN} PRIVATE KEY-----",
        f"{BEGIN} OPENSSH PRIVATE KEY-----",
        f"{BEGIN} RSA PRIVATE KEY-----",
        "key AKIA" + "ABCDEFGHIJKLMNOP",
        "ghp_" + "a1" * 18,
        f"postgresql://me:{VALUE}@db/ledger",
        f'api_key="{VALUE}"',
        f"API-KEY: '{VALUE}'",
        f'{{"token": "{VALUE}"}}',
        f"wandb_api_key = '{VALUE}'",
        f'AWS_SECRET_ACCESS_KEY="{VALUE}"',
    ],
)
def test_texts_that_hold_a_secret_wherever_they_stand(text: str) -> None:
    assert holds_secret(f"before\n{text}\nafter", environ={})
    assert holds_secret(f"before\n{text}\nafter", is_code=True, environ={})


def test_a_bare_value_is_one_except_in_code() -> None:
    assert holds_secret(f"password={VALUE}", environ={})
    assert not holds_secret("cls_token = tokens_2x_by_frame", is_code=True, environ={})


@pytest.mark.parametrize(
    "text",
    [
        "token = self.tokens_by_frame(16)",
        "secret = os.environ['MY_SECRET_1']",
        "postgresql://USER:PASSWORD@HOST/DATABASE",
        'f"https://{user}:{password}@host"',
        "num_tokens: 1024",
        'names = {"cls_token": "backbone.cls_token"}',
        "monkey: see https://example.org/a:b@c",
    ],
)
def test_texts_without(text: str) -> None:
    assert not holds_secret(text, is_code=True, environ={})


def test_values_of_the_environment_are_known() -> None:
    environ = {"WANDB_API_KEY": "nothing-special", "PAGER": "some-long-pager", "MY_TOKEN": "short"}
    assert holds_secret("x nothing-special y", environ=environ)
    assert not holds_secret("some-long-pager short", environ=environ)
