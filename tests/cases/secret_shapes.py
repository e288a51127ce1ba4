"""A generated corpus of secrets as they turn up in arguments, and of texts that are none.

A template holds secrets between guillemets; inside them `<kind:count>` stands for random characters, so that
every seed gives other values. `SEEN` are the shapes that the rules were written with. `UNSEEN` are taken from
other lists (what providers document for their keys, the manuals of command-line programs, the formats that
other scanners name) and were written down before the rules; no rule was written for one of them.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
import uuid
from dataclasses import dataclass, replace
from typing import Any

from tests.cases import held_out_shapes
from tests.cases.bip39 import WORDS

_KINDS = {
    "a": string.ascii_lowercase,
    "A": string.ascii_uppercase,
    "0": string.digits,
    "hex": "0123456789abcdef",
    "HEX": "0123456789ABCDEF",
    "a0": string.ascii_lowercase + string.digits,
    "A0": string.ascii_uppercase + string.digits,
    "aA0": string.ascii_letters + string.digits,
    "b32": string.ascii_uppercase + "234567",
    "b64": string.ascii_letters + string.digits + "+/",
    "url": string.ascii_letters + string.digits + "-_",
    "pw": string.ascii_letters + string.digits + "!#%+_.*^~",
}
_PLACE = re.compile(r"<(\w+):(\d+)>")


@dataclass(frozen=True)
class Shape:
    """One text or structure with secrets in it."""

    name: str
    value: Any
    """What a tool is given."""
    secrets: tuple[str, ...]
    seen: bool
    held_out: bool = False
    """Whether it is of the part that was written down before the rules of its kind, and kept apart."""


def _fill(template: str, chance: random.Random) -> str:
    def characters(found: re.Match[str]) -> str:
        kind, count = found.group(1), int(found.group(2))
        if kind == "uuid":
            return str(uuid.UUID(int=chance.getrandbits(128), version=4))
        if kind == "words":
            return " ".join(chance.choice(WORDS) for _ in range(count))
        text = "".join(chance.choice(_KINDS[kind]) for _ in range(count))
        # A real password has letters and digits, and does not end like a sentence.
        return f"{text[:-2]}{chance.choice('xyzkvq')}{chance.randrange(10)}" if kind == "pw" else text

    return _PLACE.sub(characters, template)


def _shape(name: str, template: Any, chance: random.Random, seen: bool) -> Shape:
    secrets: list[str] = []

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [fill(item) for item in value]
        if not isinstance(value, str):
            return value
        if value.startswith("base64:"):
            secrets.append(base64.b64encode(_fill(value[7:], chance).encode()).decode())
            return secrets[-1]
        parts = re.split("[«»]", _fill(value, chance))
        secrets.extend(parts[1::2])
        return "".join(parts)

    return Shape(name, fill(template), tuple(secrets), seen)


PW = "«<pw:14>»"

SEEN_TOKENS = """
sk-proj-<url:74>T3BlbkFJ<url:74>|sk-<aA0:20>T3BlbkFJ<aA0:20>|sk-ant-api03-<url:93>AA|sk_live_<aA0:24>
rk_test_<aA0:24>|ghp_<aA0:36>|gho_<aA0:36>|github_pat_<aA0:22>_<aA0:59>|glpat-<url:20>|glrt-<url:20>
glptt-<hex:40>|gldt-<url:20>|glsoat-<url:20>|glft-<url:20>|xoxb-<0:12>-<0:12>-<aA0:24>|xapp-1-A<A0:10>-<0:12>-<hex:64>
AKIA<b32:16>|ASIA<b32:16>|AIza<url:35>|GOCSPX-<url:28>|ya29.<url:60>|npm_<aA0:36>|pypi-AgEIcHlwaS5vcmc<url:70>
hf_<aA0:34>|dapi<hex:32>|SG.<url:22>.<url:43>|shpat_<hex:32>|shpss_<hex:32>|sq0atp-<url:22>|gsk_<aA0:52>
glsa_<aA0:32>_<hex:8>|dop_v1_<hex:64>|doo_v1_<hex:64>|dor_v1_<hex:64>|hvs.<url:95>|hvb.<url:150>|lin_api_<aA0:40>
NRAK-<A0:27>|NRII-<url:32>|PMAK-<hex:24>-<hex:34>|pul-<hex:40>|rubygems_<hex:48>|sntryu_<hex:64>|pscale_tkn_<url:43>
pscale_pw_<url:43>|pscale_oauth_<url:43>|duffel_test_<url:43>|dt0c01.<A0:24>.<A0:64>|dp.pt.<aA0:43>|fio-u-<url:64>
EZAK<aA0:54>|EZTK<aA0:54>|FLWSECK_TEST-<hex:32>-X|shippo_live_<hex:40>|sm_aat_<aA0:16>|rdme_<a0:70>|pnu_<aA0:36>
tk-us-<url:48>|ops_eyJ<aA0:280>|A3-<A0:6>-<A0:11>-<A0:5>-<A0:5>-<A0:5>|AGE-SECRET-KEY-1<A:0>QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LQPZRY9X8GF2TVDW0S3JN54KHCE
LTAI<a0:20>|AKCp<aA0:69>|xkeysib-<hex:64>-<a0:16>|sbp_<hex:40>|dckr_pat_<url:27>|nvapi-<url:60>|xai-<aA0:80>|pplx-<aA0:48>
r8_<aA0:37>|figd_<url:40>|ntn_<0:11><aA0:35>|ATATT3<url:186>|tskey-auth-<aA0:16>-<aA0:20>|<0:9>:AA<url:33>|ABSK<b64:120>
eyJ<url:30>.eyJ<url:60>.<url:43>|SK<hex:32>|API-<A0:26>|CLOJARS_<a0:60>|v1.0-<hex:24>-<hex:146>|p8e-<a0:32>
rzp_live_<aA0:14>|ATCTT3xFfGN0<url:150>|ATBB<aA0:32>|HRKU-<uuid:1>|sdk-<uuid:1>|access_token$production$<a0:16>$<hex:32>|amzn.mws.<uuid:1>|FwoGZXIvYXdzE<b64:200>
<hex:32>-us14|oy2<a0:43>|cio<aA0:32>|gAAAAAB<url:93>|AQEyhmfx<b64:110>
""".replace("<A:0>", "")

UNSEEN_TOKENS = """
bkua_<hex:40>|CCIPAT_<aA0:22>_<hex:40>|CFPAT-<url:43>|lsv2_pt_<hex:32>_<hex:10>|sk-or-v1-<hex:64>|sk-lf-<uuid:1>
pcsk_<aA0:6>_<aA0:60>|apify_api_<aA0:36>|nfp_<aA0:36>|napi_<a0:64>|rnd_<aA0:28>|ddp_<aA0:36>
lin_oauth_<hex:64>|sgp_<hex:16>_<hex:40>|squ_<hex:40>|sqp_<hex:40>|dckr_oat_<url:32>|phx_<aA0:43>|re_<aA0:8>_<aA0:24>
FlyV1 fm2_<b64:120>|<aA0:14>.atlasv1.<url:67>
EAAAE<url:59>|tfp_<aA0:44>_<aA0:14>|live_<hex:35>
y0_<url:55>|AQVN<url:36>|key-<hex:32>|secret_<aA0:43>|patAbCdEfGhIjKlMn.<hex:64>
dp.st.prd.<aA0:43>|dp.ct.<aA0:43>|whsec_<b64:32>|xoxe.xoxb-1-<A0:163>|xoxs-<0:12>-<0:12>-<0:12>-<hex:32>
GR1348941<url:20>|glagent-<url:50>|gloas-<hex:64>|glimt-<url:25>|glcbt-<a0:2>_<url:20>|sntrys_eyJpYXQiO<aA0:90>_<aA0:43>
sk_sbox_<a0:27>|sk.eyJ1Ijo<url:60>.<url:22>|fw_<aA0:24>|MT<url:22>.<url:6>.<url:38>
"""

SEEN_TEXTS: dict[str, list[str]] = {
    "sql": [
        f"CREATE LOGIN app WITH PASSWORD = N'{PW}'",
        f"ALTER LOGIN sa WITH PASSWORD = N'{PW}' OLD_PASSWORD = N'{PW}'",
        f"ALTER USER app WITH PASSWORD '{PW}';",
        f"CREATE USER 'b'@'%' IDENTIFIED BY '{PW}'",
        f"ALTER USER 'b'@'%' IDENTIFIED WITH caching_sha2_password BY '{PW}'",
        f"GRANT ALL ON x.* TO 'b'@'%' IDENTIFIED BY '{PW}'",
        f"SET PASSWORD FOR 'b'@'%' = PASSWORD('{PW}')",
        f"SET PASSWORD = '{PW}'",
        f"INSERT INTO users (name, password) VALUES ('b', '{PW}')",
        f"INSERT INTO users(id, login, passwd, age) VALUES (1, 'b', '{PW}', 30), (2, 'c', '{PW}', 31)",
        f"insert into accounts (api_key, owner) values ('{PW}', 'ann')",
        f"UPDATE users SET password = '{PW}' WHERE id = 1",
        f"update users set pwd='{PW}', n=2",
        f"SELECT * FROM users WHERE password='{PW}'",
        f"CREATE USER app PASSWORD '{PW}' CREATEDB",
        f"CREATE ROLE app LOGIN ENCRYPTED PASSWORD '{PW}'",
    ],
    "flags": [
        f"mysql -u root -p {PW} shop",
        f"mysql -u root -p{PW} shop",
        f"mysqldump --password={PW} shop > /tmp/x",
        f"mysqladmin -u root --password {PW} status",
        f"sshpass -p {PW} ssh root@db",
        f"sshpass -p '{PW}' scp a b:",
        f"redis-cli -h cache -a {PW} ping",
        f"redis-cli --pass {PW} ping",
        f"curl -u ann:{PW} https://x.example",
        f"curl --user ann:{PW} https://x.example",
        f"curl -s -u 'ann:{PW}' https://x.example",
        f"docker login -u ann -p {PW} registry.example",
        f"docker login --username ann --password {PW}",
        f"mongosh --username ann --password {PW} --host db",
        f"mongodump -u ann -p {PW}",
        f"deploy --token {PW} --env prod",
        f"deploy --token={PW}",
        f"tool --api-key {PW} run",
        f'tool --client-secret "{PW}" run',
        f"PGPASSWORD={PW} psql -h db -U app",
        f"psql 'host=db user=app password={PW}'",
        f"psql postgresql://app:{PW}@db/x",
        f"wget --password={PW} --user=ann https://x.example",
        f"mariadb -uroot -p{PW}",
        f"az login --service-principal -u app -p {PW} --tenant t",
    ],
    "headers": [
        "Authorization: Basic «YWRtaW46<aA0:12>cw==»",
        "Authorization: Bearer «<url:40>»",
        "authorization: bearer «<url:30>»",
        "Proxy-Authorization: Basic «YWRtaW46<aA0:8>Vy»",
        'Authorization: Digest username="ann", realm="x", nonce="«<hex:32>»", uri="/", response="«<hex:32>»"',
        "Authorization: Negotiate «YII<b64:60>»",
        "Authorization: NTLM «TlRMTVNTUAAD<b64:60>»",
        "Authorization: AWS4-HMAC-SHA256 Credential=«AKIA<b32:16>»/20260101/eu/s3/aws4_request, "
        "SignedHeaders=host, Signature=«<hex:64>»",
        "Authorization: Token «<hex:40>»",
        "Authorization: ApiKey «<aA0:40>»",
        "Authorization: «<aA0:40>»",
        "X-Api-Key: «<aA0:32>»",
        "X-Auth-Token: «<hex:32>»",
        "Cookie: sid=«<aA0:32>»; theme=«<aA0:12>»",
        "Set-Cookie: sessionid=«<a0:32>»; Path=/; HttpOnly; Secure",
        "curl -H 'Authorization: Bearer «<aA0:32>»' https://x.example",
        'curl -H "X-API-KEY: «<aA0:32>»" https://x.example',
        "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer «<aA0:32>»\r\nAccept: */*\r\n",
        "Private-Token: «<url:20>»",
        "X-Csrf-Token: «<aA0:32>»",
        "X-Amz-Security-Token: «<b64:120>»",
    ],
    "connections": [
        f"postgres://app:{PW}@db.example:5432/shop",
        f"mysql+pymysql://app:{PW}@db/shop?charset=utf8",
        f"redis://:{PW}@cache:6379/0",
        f"amqps://app:{PW}@mq.example/vhost",
        f"mongodb+srv://app:{PW}@cluster0.example.net/test",
        f"https://ann:{PW}@x.example/repo.git",
        "https://«<a0:40>»@github.com/org/repo.git",
        f"Server=db;Database=shop;User Id=sa;Password={PW};Encrypt=true",
        f"Driver={{ODBC Driver 18 for SQL Server}};Server=db;Uid=sa;Pwd={PW};",
        f"Data Source=db;User ID=sa;Pwd='{PW}';Initial Catalog=x",
        f"jdbc:postgresql://db/shop?user=app&password={PW}&ssl=true",
        f"jdbc:sqlserver://db;databaseName=x;user=sa;password={PW};encrypt=true",
        f"jdbc:oracle:thin:app/{PW}@db:1521/x",
        "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=«<b64:86>==»;EndpointSuffix=core.windows.net",
        "Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=«<b64:43>=»",
        f"host=db port=5432 user=app password={PW} dbname=shop",
        f"ftp://ann:{PW}@files.example/x",
        f"smtp://ann%40x.example:{PW}@mail.example:587",
        "https://hooks.slack.com/services/T«<A0:8>»/B«<A0:8>»/«<aA0:24>»",
        "https://discord.com/api/webhooks/<0:18>/«<url:68>»",
    ],
    "blocks": [
        "-----BEGIN RSA PRIVATE KEY-----\n«<b64:64>\n<b64:64>\n<b64:40>==»\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN OPENSSH PRIVATE KEY-----\n«<b64:70>\n<b64:70>\n<b64:22>»\n-----END OPENSSH PRIVATE KEY-----\n",
        "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,<HEX:32>\n\n"
        "«<b64:64>\n<b64:30>==»\n-----END EC PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n«<b64:64>\n<b64:64>\n=<aA0:4>»\n"
        "-----END PGP PRIVATE KEY BLOCK-----",
        r"key: '-----BEGIN PRIVATE KEY-----\n«<b64:64>\n<b64:64>»\n-----END PRIVATE KEY-----\n'",
        "-----BEGIN PRIVATE KEY----- «<b64:64> <b64:64> <b64:20>=» -----END PRIVATE KEY-----",
        "echo '-----BEGIN PRIVATE KEY-----\n«<b64:64>\n<b64:64>»",
        "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPrivate-Lines: 1\n«<b64:64>»\nPrivate-MAC: «<hex:64>»",
    ],
    "seeds": [
        "«<words:12>»",
        "my seed phrase is «<words:12>»",
        "seed phrase: «<words:24>»",
        "mnemonic=«<words:15>»",
        'wallet restore --mnemonic "«<words:18>»"',
        "Recovery phrase:\n«<words:21>»\nKeep it safe.",
        "MNEMONIC='«<words:12>»'",
        '{"seed": "«<words:12>»"}',
    ],
    "assignments": [
        "password=«ab;cd»",
        "password=«Xy9;Kq2v»",
        f"password: {PW}",
        f"password = '{PW}'",
        f'PASSWORD="{PW}"',
        f"export DB_PASSWORD={PW}",
        f"set DB_PW={PW}",
        f"passwd={PW}&user=ann",
        f"user=ann&pw={PW}&x=1",
        f"https://x.example/?user=ann&access_token={PW}&n=1",
        f"https://x.example/cb#access_token={PW}&state=1",
        f"grant_type=password&username=ann&password={PW}",
        f"machine x.example login ann password {PW}",
        "//registry.npmjs.org/:_authToken=«<uuid:1>»",
        "//registry.example/:_password=«<b64:20>==»",
        f"db.example:5432:shop:app:{PW}",
        '{"auths": {"registry.example": {"auth": "«<b64:30>==»"}}}',
        "users:\n- name: ann\n  user:\n    client-key-data: «<b64:80>==»\n    token: «<url:40>»",
        "apiVersion: v1\nkind: Secret\ndata:\n  password: «<b64:16>==»\n  other: eA==",
        f"the error was: password={PW} is wrong",
        f"a:\n  db:\n    password: {PW}\n    host: x",
        f"password: |\n  {PW}\n",
        f"<config><password>{PW}</password></config>",
        f'<add key="Password" value="{PW}"/>',
        f'{{"user": "ann", "password": "{PW}", "n": 1}} trailing',
        f"C(user='ann', password='{PW}')",
        f"os.environ['API_KEY'] = '{PW}'",
        f'api_key: str = "{PW}"',
        f"clave={PW}",
        f"contraseña: {PW}",
        f"contrasena={PW}",
        f"mot_de_passe={PW}",
        f"mot de passe : {PW}",
        f"Passwort: {PW}",
        f"kennwort={PW}",
        f"senha={PW}",
        f"wachtwoord={PW}",
        f"hasło: {PW}",
        f"haslo={PW}",
        f"lozinka={PW}",
        f"пароль: {PW}",
        f"密码: {PW}",
        f"密碼={PW}",
        f"パスワード: {PW}",
        f"비밀번호={PW}",
        f"รหัสผ่าน={PW}",
    ],
}

UNSEEN_TEXTS: dict[str, list[str]] = {
    "sql": [
        f"CREATE USER MAPPING FOR app SERVER s OPTIONS (user 'app', password '{PW}')",
        f"SELECT dblink_connect('host=db user=app password={PW}')",
        f"PRAGMA key = '{PW}';",
        "CREATE DATABASE SCOPED CREDENTIAL c WITH IDENTITY = 'app', SECRET = '«<aA0:40>»';",
        "COPY t FROM 's3://b/k' CREDENTIALS 'aws_access_key_id=«AKIA<b32:16>»;aws_secret_access_key=«<b64:40>»'",
        f"REPLACE INTO logins (user_name, user_password, created) VALUES ('b', '{PW}', NOW())",
        f"MERGE INTO u USING (SELECT 'b' AS login, '{PW}' AS password) s ON u.login = s.login",
        f"EXEC sp_addlogin 'app', @password = '{PW}'",
        f"ALTER ROLE app PASSWORD '{PW}' VALID UNTIL '2030-01-01'",
        f"CREATE EXTERNAL TABLE x LOCATION 'mysql://app:{PW}@db/t'",
        f"BACKUP DATABASE x TO DISK='x' WITH MEDIAPASSWORD = '{PW}'",
        f"OPEN SYMMETRIC KEY k DECRYPTION BY PASSWORD = '{PW}'",
    ],
    "flags": [
        f"openssl enc -aes-256-cbc -in a -out b -pass pass:{PW}",
        f"openssl rsa -in k.pem -passin pass:{PW}",
        f"gpg --batch --passphrase {PW} -d x.gpg",
        f"ldapsearch -x -D cn=admin -w {PW} -b dc=x",
        f"smbclient //srv/share -U ann%{PW}",
        f"sqlcmd -S db -U sa -P {PW} -Q 'select 1'",
        f"cqlsh -u cassandra -p {PW}",
        f"keytool -list -keystore k.jks -storepass {PW}",
        f"java -Djavax.net.ssl.keyStorePassword={PW} -jar a.jar",
        f"mvn deploy -Drepo.password={PW}",
        f"kubectl create secret generic db --from-literal=password={PW}",
        f"helm upgrade x ./x --set db.password={PW}",
        "aws configure set aws_secret_access_key «<b64:40>»",
        f"git -c http.extraHeader='PRIVATE-TOKEN: {PW}' fetch",
        f"wget --http-user=ann --http-password={PW} https://x.example",
        f"zip -P {PW} a.zip a",
        f"htpasswd -b /etc/htpasswd ann {PW}",
        f"ansible-playbook x.yml -e ansible_ssh_pass={PW}",
        f"docker run -e POSTGRES_PASSWORD={PW} postgres",
        f"lftp -u ann,{PW} ftp.example",
        f"sqlplus app/{PW}@db",
        f"rabbitmqctl add_user ann {PW}",
        "vault login «s.<aA0:24>»",
        f"setx STRIPE_SECRET {PW}",
        f"net use z: \\\\srv\\x /user:ann {PW}",
        f"heroku config:set SECRET_KEY_BASE={PW}",
        f"nmcli dev wifi connect home password {PW}",
        f"npm config set //r.example/:_authToken {PW}",
    ],
    "headers": [
        "X-Vault-Token: «hvs.<aA0:24>»",
        "X-Shopify-Access-Token: «<hex:32>»",
        "X-Gitlab-Token: «<aA0:20>»",
        "Ocp-Apim-Subscription-Key: «<hex:32>»",
        "X-Goog-Api-Key: «<aA0:39>»",
        "x-functions-key: «<url:54>==»",
        "X-Auth-Key: «<hex:37>»",
        "X-Hub-Signature-256: sha256=«<hex:64>»",
        'Authorization: OAuth oauth_consumer_key="«<aA0:25>»", oauth_token="«<aA0:50>»", oauth_signature="«<aA0:28>»"',
        "Authorization: GoogleLogin auth=«<url:60>»",
        "Authorization: SharedKey acct:«<b64:43>=»",
        'Authorization: Hawk id="x", ts="1353832234", nonce="j4h3g2", mac="«<b64:43>="»',
        "Cookie: wordpress_logged_in_x=«ann%7C1700000000%7C<aA0:43>»; PHPSESSID=«<a0:26>»",
        "DD-API-KEY: «<hex:32>»",
    ],
    "connections": [
        "AccountEndpoint=https://x.documents.azure.com:443/;AccountKey=«<b64:86>==»;",
        "https://x.blob.core.windows.net/c/b?sv=2022-11-02&se=2026-01-01&sr=b&sp=r&sig=«<aA0:43>%3D»",
        "https://b.s3.amazonaws.com/k?X-Amz-Credential=x&X-Amz-Signature=«<hex:64>»&X-Amz-Date=1",
        "https://x.webhook.office.com/webhookb2/«<uuid:1>@<uuid:1>»/IncomingWebhook/«<hex:32>»/«<uuid:1>»",
        f"sftp://ann:{PW}@files.example:22/x",
        "https://oauth2:«<url:20>»@gitlab.example/x.git",
        f"snowflake://app:{PW}@acct/db/schema?warehouse=w",
        f"clickhouse://default:{PW}@ch:9000/x",
        f"Host=db;Username=app;Password={PW};Pooling=true",
        f"mssql://sa:{PW}@db:1433/x?encrypt=true",
        "https://«<hex:32>»@o1.ingest.sentry.io/2",
        "sentinel://:«<aA0:20>»@h:26379/0",
    ],
    "files": [
        f"define( 'DB_PASSWORD', '{PW}' );",
        "define('AUTH_KEY', '«<pw:50>»');",
        "[default]\naws_access_key_id = «AKIA<b32:16>»\naws_secret_access_key = «<b64:40>»",
        f"[client]\nuser=root\npassword={PW}\n",
        "secret_key_base: «<hex:128>»",
        "SECRET_KEY = 'django-insecure-«<pw:40>»'",
        "APP_KEY=base64:«<b64:43>=»",
        f"spring.datasource.password={PW}",
        f"$config['db']['pass'] = '{PW}';",
        f"ansible_become_password: {PW}",
        f'requirepass "{PW}"',
        f"wpa_passphrase={PW}",
        f'network={{\n  ssid="x"\n  psk="{PW}"\n}}',
        "JWT_SIGNING_KEY: «<aA0:44>»",
        'variable "db_password" {\n  default = "«<aA0:16>»"\n}',
        f'resource x {{ master_password = "{PW}" }}',
        '"private_key_id": "x", "private_key": "-----BEGIN PRIVATE KEY-----\\n«<b64:64>»\\n-----END PRIVATE KEY-----\\n"',
        "user:$6$«<aA0:16>$<aA0:86>»:19000:0:99999:7:::",
        "ENC_KEY=«<hex:64>»",
        "TWILIO_AUTH_TOKEN=«<hex:32>»",
        "credentials:\n  username: ann\n  password: >-\n    «<aA0:20>»",
        "COOKIE_SECRET=«<url:43>»",
        f"login: ann / haslo: {PW}",
        f"Parola: {PW}",
        f"lösenord={PW}",
        f"salasana: {PW}",
        f"heslo={PW}",
        f"jelszó: {PW}",
        f"şifre={PW}",
        f"mật khẩu: {PW}",
        f"adgangskode={PW}",
        f"κωδικός: {PW}",
        "wallet words: «<words:12>»",
        "restore from: «<words:24>» please",
    ],
}

SEEN_NAMES = [
    "password",
    "passwd",
    "pwd",
    "pw",
    "DB_PW",
    "dbPw",
    "stripe_key",
    "STRIPE_KEY",
    "sid",
    "pem",
    "passphrase",
    "pass",
    "api_key",
    "apiKey",
    "x-api-key",
    "token",
    "access_token",
    "auth_token",
    "refresh_token",
    "id_token",
    "secret",
    "client_secret",
    "private_key",
    "signing_key",
    "encryption_key",
    "pin",
    "otp",
    "cvv",
    "ssn",
    "card_number",
    "connection_string",
    "dsn",
    "cookie",
    "session_cookie",
    "credentials",
    "contraseña",
    "clave",
    "mot_de_passe",
    "passwort",
    "kennwort",
    "senha",
    "wachtwoord",
    "hasło",
    "haslo",
    "lozinka",
    "пароль",
    "密码",
    "密碼",
    "パスワード",
    "비밀번호",
    "mnemonic",
    "seed_phrase",
    "webhook_secret",
    "openai_key",
    "github_pat",
    "ssh_private_key",
    "bearer_token",
    "jwt",
    "db_password",
    "user_password",
    "smtp_pass",
]
UNSEEN_NAMES = [
    "masterPassword",
    "admin_pwd",
    "rootPassword",
    "keystorePassword",
    "storepass",
    "hmacSecret",
    "SecretAccessKey",
    "sharedAccessKey",
    "accountKey",
    "bot_token",
    "personal_access_token",
    "app_secret",
    "consumerSecret",
    "oauth_token_secret",
    "sasToken",
    "twilioAuthToken",
    "sendgrid_key",
    "mapboxToken",
    "vaultToken",
    "unseal_key",
    "recoveryPhrase",
    "wifi_psk",
    "preshared_key",
    "gpg_passphrase",
    "licenseKey",
    "SNOWFLAKE_PASSWORD",
    "ldapBindPassword",
    "bindpw",
    "lösenord",
    "salasana",
    "heslo",
    "jelszó",
    "şifre",
    "parola",
    "暗証番号",
    "svn_pass",
]


def secrets(seed: int = 11) -> list[Shape]:
    """Return the corpus; the same for the same seed."""
    chance = random.Random(seed)
    around = ["{}", "use {} now", "key {}, please", '"{}"', "x={}\n", "({})"]
    found: list[Shape] = []
    for tokens, seen in ((SEEN_TOKENS, True), (UNSEEN_TOKENS, False)):
        for number, token in enumerate(tokens.replace("\n", "|").strip("|").split("|")):
            text = around[number % len(around)].format(f"«{token}»")
            found.append(_shape(f"token {token[:20]}", {"text": text}, chance, seen))
    for texts, seen in ((SEEN_TEXTS, True), (UNSEEN_TEXTS, False)):
        for kind, templates in texts.items():
            for number, template in enumerate(templates):
                found.append(_shape(f"{kind} {number}", {"text": template}, chance, seen))
    for names, seen in ((SEEN_NAMES, True), (UNSEEN_NAMES, False)):
        for number, name in enumerate(names):
            value: Any = {name: PW} if number % 2 else {"settings": [{name: PW, "n": 1}]}
            found.append(_shape(f"name {name}", value, chance, seen))
    for kind, templates in held_out_shapes.TEXTS.items():
        for number, template in enumerate(templates):
            shape = _shape(f"held out {kind} {number}", {"text": template}, chance, False)
            found.append(replace(shape, held_out=True))
    for number, value in enumerate(held_out_shapes.VALUES):
        found.append(replace(_shape(f"held out value {number}", value, chance, False), held_out=True))
    return found


_PROSE = """
Please reset the password of the second account.|The password is required and must be changed every year.
A token is the smallest unit that a model reads.|Our secretary opened the door with the key.
She forgot her PIN and asked for a new card.|The author passed the exam; the passenger did not.
Passwords must have twelve characters.|Ask the user for their password, then log in.
What is the meaning of a bearer token?|Basic training is authorised by the board.
The API key is stored in the vault, not here.|Do not share your password with anyone.
Key findings: sales rose by 4 percent.|The compass points north; the bypass is closed.
Your session has expired, please sign in again.|Two-factor authentication adds a second step.
Token usage: 1200 of 4096.|Sign the form and return it by Friday.|Our cookie policy has changed.
The secret of good bread is time.|He gave the order a pass.|This private key opens the cellar, the public one the gate.
pass the salt|a pinned comment|the keyboard has 104 keys|access is granted to all members
password reset requested for ann@example.com|login failed: wrong password for user ann
token expired at 2026-01-02T03:04:05Z|invalid api key|unauthorized: missing bearer token
"""

_CODE = """
SELECT id, name FROM orders WHERE total > 100 ORDER BY id|SELECT count(*) FROM users WHERE password IS NULL
UPDATE orders SET state = 'shipped' WHERE id = 77|INSERT INTO orders (id, total) VALUES (1, 20.5)
ALTER TABLE users ADD COLUMN password_hash text|CREATE INDEX token_idx ON t (token_count)
SELECT token_symbol, to_token FROM swaps|DELETE FROM sessions WHERE expires_at < now()
GRANT SELECT ON orders TO reader|INSERT INTO users (name, age) VALUES ('ann', 31)
def login(password: str) -> bool:|if token == expected: return None|for key, value in items.items():
return self._token|const token = await getToken()|password = getpass.getpass()|token = os.environ["TOKEN"]
import secrets|from auth import login|x = tokenizer.encode(text)|key = sorted(keys)[0]
assert response.status_code == 200|git commit -m "fix the token count"|git checkout -b feature/password-reset
ls -la /var/log|docker run -p 8080:80 nginx|mkdir -p /tmp/x/y|tar -xzf a.tgz -C /opt|grep -rn "password" src/
ssh -p 2222 ann@host|cp -p a b|npm run build|python -m pytest -p no:cacheprovider|kubectl get pods -n prod
curl -s https://x.example/api/v1/items?page=2|psql -h db -p 5432 -U app|pip install requests==2.31.0
cat /etc/hostname|rsync -a --delete a/ b/|make -j 4 all|export PATH=/usr/local/bin:$PATH|EDITOR=vim
nmap -p 22,80 10.0.0.1|du -sh *|echo $HOME|sed -n 1,20p x|find . -name "*.pem" -type f
"""

_TALK = """
Enter your password:|Password:|The password field must not be empty|Your new password has been saved.
password is required|password must contain at least 8 characters|Use SHA256 for the password hash|token is OAuth2
Is the password base64 encoded?|The token is v2 of the format.|the secret is sha256-hashed|my password is strong
The password was changed on 2026-01-02.|password for user 12 was reset|set password policy to level3|pass 3 of 5
The key is AES256, the token is a JWT.|Your PIN will arrive by post.|password reset link sent to ann@example.com
token ERC20 on chain 8453|secret santa 2026|He knows the password of room 12.|passwords: see the handbook
mein Passwort ist zu kurz|la contraseña es obligatoria|le mot de passe est trop court|la password è scaduta
Das Passwort ist abgelaufen.|пароль не подходит|密码是必填项|パスワードは必須です|비밀번호는 필수입니다
Passwort vergessen?|¿Olvidó su contraseña?|Mot de passe oublié ?|hasło jest za krótkie|şifre en az 8 karakter
echo hello world|echo "done" | tee log.txt|echo yes | apt-get install x|printf 'a\\tb' | cut -f1|ls | sudo tee /etc/x
zip -r out.zip dir|unzip -l a.zip|7z l a.7z|tar xf a.tar|net use|net user|net user ann /delete|curl -s https://x.example -o f
docker run -p 8080:80 -e TZ=UTC nginx|docker login registry.example|docker compose -p shop up|az group list -o table
mysql -u root -h db shop|mysql --version|psql -p 5432|ssh -p 2222 ann@host ls|scp -P 22 a b:|rsync -e 'ssh -p 22' a b:
openssl x509 -in cert.pem -noout|openssl rand -hex 16|openssl s_client -connect x.example:443|keytool -list -v
vault status|vault kv get secret/db|vault list auth|kubectl get secret db -o yaml|kubectl create ns prod|helm list -A
gh pr list|gh secret list|aws s3 cp a s3://b|aws ssm get-parameter --name /x|cargo build --release|npm publish
htpasswd -D .htpasswd ann|snmpwalk -v2c -c public host|ldapsearch -x -b dc=x uid=ann|security find-identity -v
login(user)|auth.login()|authenticate(request, backend)|requests.get(url, auth=auth)|credentials = load(path)
setPassword(value)|getToken("prod/db")|get_secret("db/password")|reset_password("ann@example.com")|hash_password(pw)
password = input("Password: ")|password: str = Field(min_length=8)|secret = vault.read("kv/x")|const { token } = props
if (!password) throw new Error("password missing")|assert "password" in form|del session["token"]|print("token:", len(t))
<label for="password">Password</label>|<input type="password" name="password">|placeholder="Your password"
type: password|"type": "password"|- name: password\n  type: string\n  required: true|env:\n- name: TOKEN\n  valueFrom: x
npm install @scope/pkg@1.2.3|uses: actions/checkout@v4|docker pull org/app@sha256:abcd|git clone git@github.com:org/repo.git
mailto:ann.lee@x.example|ann@x.example|Contact: Ann <ann@x.example>|ftp://files.example/pub|https://x.example/@ann/post
nginx:1.25-alpine@sha256:00|image: org/app:v1.2.3|host:5432/db|user:group /srv/x|C:/Users/ann/x@2x.png|a/b@c
ALTER USER ann RENAME TO bob|CREATE USER ann|the suspect was identified by the police|SELECT 'x' AS name FROM t
SELECT md5('hello')|UPDATE t SET note = concat('a', 'b')|INSERT INTO t (a, b) SELECT 'x', 'y'|PRAGMA table_info('t')
key: value\nother: 1|tokens:\n  - word\n  - other|secrets:\n  enabled: true|password:\n  Enter it below|auth:\n  type: oauth
default login page|machine learning course|AUTH is required|CONNECT x.example:443|send "hello\\r"|connect to the server
card ending in 4242|expires 12/29|verification code sent|your code is in the mail|two-factor code required|pin the tab
password -> Passwort|token => next|a -> b|x <- 5|secret: none|password: null|token: undefined|password: ********
{"k": "color", "v": "red"}|[{"key": "DB_HOST", "val": "x"}]|{"name": "password", "required": true}|{"id": "token", "size": 3}
username admin privilege 15|enable 7|ip address 10.0.0.1|interface Gi0/1|private:\n  int count2;|unlock the door
cGFydHk=|aGVsbG8gd29ybGQgdGhpcyBpcyBmaW5l|70617274792074696d65|dGhlIHRva2VuaXplciBpcyBmYXN0|bmV4dA==
%3D%3D|a%3Db%26c%3Dd|q=password+reset&page=2|search?q=api%20key|token_count%3D5|/docs/password%20policy
"""

_VALUES = """
from_token=USDC|to_token=WETH|token_symbol: ETH|session_id=01HF8Z|secret_arn: arn:aws:secretsmanager:eu:1:secret:db-AbC
credit_card_account_id=991|credit_card_last_4: 4242|pincode: 560001|max_tokens=4096|token_count: 17|key_id: k-17
public_key: ssh-ed25519|primary_key=id|keyboard: de|author: Ann|bypass=true|compass=N|next_page_token: abc
password_policy: strong|token_type: bearer|passenger: Ann|secretary: Bob|sort_key=created_at|partition_key: region
token_limit: 5|api_version=2026-01-01|auth_method: oauth|cookie_consent=yes|key: value|password_length: 12
"""

_FIELDS: list[dict[str, Any]] = [
    {"from_token": "USDC", "to_token": "WETH", "amount": 3},
    {"token_symbol": "ETH", "chain": "base"},
    {"session_id": "sess_01HF8ZQK"},
    {"secret_arn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf"},
    {"credit_card_account_id": "cca_8841", "credit_card_last_4": "4242"},
    {"pincode": "560001", "city": "Bengaluru"},
    {"max_tokens": 4096, "token_count": 12},
    {"page_token": "CAUQAA", "next_token": "abc"},
    {"key_id": "k-17", "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"},
    {"primary_key": "id", "foreign_key": "user_id", "sort_key": "created_at"},
    {"keyboard": "de", "author": "Ann", "secretary": "Bob", "passenger": "Eve"},
    {"compass": "north", "bypass": "yes", "passive": "no"},
    {"authors": ["Ann", "Bob"], "keys": ["a", "b"]},
    {"password_required": True, "password_min_length": 12},
    {"tokenizer": "cl100k", "tokens": 512},
    {"secret_name": "db-password", "key_name": "deploy"},
    {"auth_type": "oauth2", "token_url": "https://x.example/token"},
    {"cookie_policy": "strict", "pinned": True},
    {"pin_code_area": "north", "spin": "up", "opinion": "good"},
    {"card_type": "visa", "card_brand": "visa", "card_expiry_year": 2030},
]

_ARGUMENTS: list[Any] = [
    {"argv": ["ls", "-la", "/tmp"]},
    {"argv": ["docker", "run", "-p", "8080:80", "nginx"]},
    {"cmd": ["ssh", "-p", "2222", "ann@host"]},
    {"cmd": ["cp", "-p", "a.txt", "b.txt"]},
    {"cmd": ["zip", "-r", "out.zip", "dir"]},
    {"cmd": ["vault", "kv", "get", "secret/db"]},
    {"cmd": ["echo", "hello", "|", "tee", "x"]},
    {"words": ["password", "token", "secret"]},
    {"k": "color", "v": "red"},
    {"fields": [{"key": "DB_HOST", "val": "db.example"}]},
    {"name": "password", "type": "string", "required": True},
    {"type": "token", "content": "Hello"},
    {"type": "password", "label": "Your password", "text": "Enter it"},
    {"id": "token_count", "value": 5},
    {"private": True, "unlock": False},
    {"title": "Reset your password", "content": "Click the link that we sent."},
    {"question": "What is a TOTP seed?", "text": "A shared number."},
    {"columns": ["id", "password"], "rows": 3},
    {"parameter": "max_tokens", "value": 512},
    {"variable": "SECRET_ARN", "value": "arn:aws:secretsmanager:eu:1:secret:x"},
]


def harmless(seed: int = 12) -> list[Any]:
    """Return values in which there is nothing to hide."""
    chance = random.Random(seed)
    digits = lambda count: "".join(chance.choice("0123456789") for _ in range(count))  # noqa: E731
    hexes = lambda count: "".join(chance.choice("0123456789abcdef") for _ in range(count))  # noqa: E731
    made: list[Any] = []
    for texts in (_PROSE, _CODE, _VALUES):
        made += texts.replace("\n", "|").strip("|").split("|")
    made += [text.replace("\\n", "\n") for text in re.split(r"(?<! )\||\n", _TALK.strip())]
    made += _ARGUMENTS
    made += _FIELDS
    for number in range(16):
        ident = uuid.UUID(int=chance.getrandbits(128), version=4)
        day = f"20{chance.randrange(20, 30)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
        image = base64.b64encode(chance.randbytes(300)).decode()
        letters = "".join(chance.choice(_KINDS["aA0"]) for _ in range(24))
        made += [
            str(ident),
            f"order {ident} shipped",
            hexes(40),
            f"commit {hexes(40)}\nAuthor: Ann <ann@example.com>",
            f"sha256:{hexes(64)}",
            f"data:image/png;base64,{image}",
            {"image": image, "format": "png"},
            f"order number {digits(10)}",
            {"order_id": f"ORD-{digits(8)}", "invoice": f"INV-2026-{digits(5)}"},
            f"{day}T10:{number:02}:00Z",
            f"+49 30 {digits(7)}",
            f"call me at ({digits(3)}) {digits(3)}-{digits(4)}",
            f"/home/ann/projects/app-{number}/src/token_utils.py",
            f"https://x.example/items/{number}?page={number}&sort=name",
            {"user": "ann", "id": int(digits(9)), "tags": ["a", "b"], "ratio": 0.5},
            json.dumps({"name": f"item {number}", "price": number * 1.5, "key": "sku", "active": True}),
            f"call_{letters}",
            {"tool_call_id": f"call_{letters}", "response_id": f"resp_{hexes(48)}"},
            f"192.168.{number}.{chance.randrange(255)}:8080",
            f"version 1.{number}.{chance.randrange(9)}-rc{number}+build.{digits(4)}",
        ]
    return made
