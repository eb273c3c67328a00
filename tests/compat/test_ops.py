"""The basic operations, asked by kazoo, of a leader, a follower and an observer."""

from __future__ import annotations

import time

import pytest
from flavours import kind
from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.security import ACL, CREATOR_ALL_ACL, Id, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, make_digest_acl

# The largest frame is one byte short of a mebibyte; the rest of it is path, ACL and header.
NEARLY_A_FRAME = 1024 * 1024 - 500


def test_create_and_get(client, root):
    path = f"{root}/a"
    before = time.time()
    assert client.create(path, b"hello") == path
    after = time.time()
    data, stat = client.get(path)
    assert data == b"hello"
    assert stat.czxid == stat.mzxid == stat.pzxid > 0
    assert (stat.version, stat.cversion, stat.aversion) == (0, 0, 0)
    assert (stat.ephemeralOwner, stat.dataLength, stat.numChildren) == (0, 5, 0)
    assert stat.ctime == stat.mtime
    # Milliseconds of the leader's clock, which is this machine's.
    assert before - 1 <= stat.ctime / 1000 <= after + 1


def test_create_with_stat(client, root):
    path, stat = client.create(f"{root}/a", b"12", include_data=True)
    assert path == f"{root}/a"
    assert stat == client.get(path)[1]


def test_create_is_refused(client, root):
    with pytest.raises(NodeExistsError):
        client.create(root)
    with pytest.raises(NodeExistsError):
        client.create("/")
    with pytest.raises(NoNodeError):
        client.create(f"{root}/missing/child")
    assert client.exists(f"{root}/missing") is None


def test_create_with_makepath(client, root):
    client.create(f"{root}/x/y/z", b"deep", makepath=True)
    assert client.get(f"{root}/x/y/z")[0] == b"deep"
    assert client.get_children(f"{root}/x") == ["y"]
    client.ensure_path(f"{root}/x/y/z")
    client.ensure_path(f"{root}/p/q")
    assert sorted(client.get_children(root)) == ["p", "x"]


@pytest.mark.parametrize("name", ["\u0001", "\u0000", "\u0080", "\ue000", "\ufff0", "\U0001f600"])
def test_unprintable_names(client, root, name):
    """Kazoo sends these as they are. Java counts in UTF-16, so whatever needs a surrogate is refused too."""
    with pytest.raises(BadArgumentsError):
        client.create(f"{root}/{name}")
    assert client.get_children(root) == []


def test_names_in_other_scripts(client, root):
    path = client.create(f"{root}/łódź-東京", b"utf-8")
    assert client.get(path)[0] == b"utf-8"
    assert client.get_children(root) == ["łódź-東京"]


def test_sequence(client, root):
    assert client.create(f"{root}/n-", sequence=True) == f"{root}/n-0000000000"
    assert client.create(f"{root}/n-", sequence=True) == f"{root}/n-0000000001"
    # The number counts creates below this parent, whatever their names, and never goes back.
    client.create(f"{root}/plain")
    client.delete(f"{root}/n-0000000001")
    assert client.create(f"{root}/m-", sequence=True) == f"{root}/m-0000000003"
    assert client.create(f"{root}/", sequence=True) == f"{root}/0000000004"


def test_ephemeral(client, root):
    path = client.create(f"{root}/e", b"x", ephemeral=True)
    assert client.exists(path).ephemeralOwner == client.client_id[0]
    with pytest.raises(NoChildrenForEphemeralsError):
        client.create(f"{path}/child")
    sequential = client.create(f"{root}/es-", ephemeral=True, sequence=True)
    assert sequential == f"{root}/es-0000000001"
    assert client.exists(sequential).ephemeralOwner == client.client_id[0]


def test_set_and_versions(client, root):
    path = client.create(f"{root}/v", b"0")
    created = client.exists(path)
    first = client.set(path, b"one")
    assert (first.version, first.dataLength) == (1, 3)
    assert first.czxid == created.czxid < first.mzxid
    assert first.ctime == created.ctime <= first.mtime
    assert client.set(path, b"two", version=1).version == 2
    with pytest.raises(BadVersionError):
        client.set(path, b"three", version=1)
    assert client.get(path)[0] == b"two"
    # Without data is not the same as with empty data, but kazoo shows both as empty.
    assert client.set(path, b"").dataLength == 0
    assert client.get(path)[0] == b""
    with pytest.raises(NoNodeError):
        client.set(f"{root}/missing", b"")


def test_exists(client, root):
    assert client.exists(f"{root}/missing") is None
    client.create(f"{root}/there", b"abc")
    assert client.exists(f"{root}/there").data_length == 3


def test_delete(client, root):
    path = client.create(f"{root}/d")
    client.create(f"{path}/child")
    with pytest.raises(NotEmptyError):
        client.delete(path)
    # The version is looked at before the children.
    with pytest.raises(BadVersionError):
        client.delete(path, version=7)
    client.delete(f"{path}/child", version=0)
    client.delete(path)
    assert client.exists(path) is None
    with pytest.raises(NoNodeError):
        client.delete(path)


def test_delete_recursive(client, root):
    client.create(f"{root}/t/a/b", makepath=True)
    client.create(f"{root}/t/c", makepath=True)
    client.delete(f"{root}/t", recursive=True)
    assert client.get_children(root) == []


def test_get_children(client, root):
    for name in "cab":
        client.create(f"{root}/{name}")
    assert sorted(client.get_children(root)) == ["a", "b", "c"]
    children, stat = client.get_children(root, include_data=True)
    assert sorted(children) == ["a", "b", "c"]
    assert (stat.numChildren, stat.cversion) == (3, 3)
    client.delete(f"{root}/b")
    after = client.get_children(root, include_data=True)[1]
    assert (after.numChildren, after.cversion) == (2, 4)
    assert after.pzxid > stat.pzxid
    with pytest.raises(NoNodeError):
        client.get_children(f"{root}/missing")


def test_large_data(client, root):
    data = bytes(range(256)) * (NEARLY_A_FRAME // 256)
    path = client.create(f"{root}/large", data)
    assert client.get(path)[0] == data


def test_pipelined_requests_are_answered_in_order(client, root):
    """Two hundred writes are on their way before the first is answered; each sees all those before it."""
    path = client.create(f"{root}/p", b"")
    writes = [client.set_async(path, b"%d" % n) for n in range(200)]
    reads = [client.get_async(path) for _ in range(3)]
    assert [write.get(timeout=30).version for write in writes] == list(range(1, 201))
    for read in reads:
        data, stat = read.get(timeout=30)
        assert (data, stat.version) == (b"199", 200)


def test_reads_see_own_writes(client, root):
    """A read right behind a write, without waiting for the write's answer."""
    path = client.create(f"{root}/own", b"")
    for n in range(100):
        client.set_async(path, b"%d" % n)
        assert client.get(path)[0] == b"%d" % n


def test_root_is_listed(client, root):
    children = client.get_children("/")
    assert {"zookeeper", root[1:]} <= set(children)
    assert "quota" in client.get_children("/zookeeper")


def test_sync(client, root):
    assert client.sync(root) == root


# ACLs


def test_acl_open_by_default(client, root):
    path = client.create(f"{root}/open")
    acls, stat = client.get_acls(path)
    assert acls == OPEN_ACL_UNSAFE
    assert stat.aversion == 0


def test_acl_read_only(client, root):
    path = client.create(f"{root}/ro", b"see", acl=READ_ACL_UNSAFE)
    assert client.get(path)[0] == b"see"
    with pytest.raises(NoAuthError):
        client.set(path, b"change")
    with pytest.raises(NoAuthError):
        client.create(f"{path}/child")
    with pytest.raises(NoAuthError):
        client.set_acls(path, OPEN_ACL_UNSAFE)
    # Deleting is a right on the parent.
    client.delete(path)


def test_acl_digest(client, root, server, connected):
    owner = connected(server.host, auth_data=[("digest", "alice:secret")])
    stranger = connected(server.host, auth_data=[("digest", "alice:guess")])
    path = owner.create(f"{root}/hers", b"private", acl=[make_digest_acl("alice", "secret", all=True)])
    assert owner.get(path)[0] == b"private"
    for other in (client, stranger):
        with pytest.raises(NoAuthError):
            other.get(path)
        with pytest.raises(NoAuthError):
            other.set(path, b"")
        with pytest.raises(NoAuthError):
            other.get_children(path)
        # To know that it is there needs no right on a server of 3.8, and READ from 3.9.2 on.
        if kind() == "apache":
            assert other.exists(path).dataLength == 7
        else:
            with pytest.raises(NoAuthError):
                other.exists(path)
    # The right comes with the authentication, on a live connection too.
    client.add_auth("digest", "alice:secret")
    assert client.get(path)[0] == b"private"


def test_acl_of_creator(client, root, server, connected):
    owner = connected(server.host, auth_data=[("digest", "bob:pw")])
    path = owner.create(f"{root}/auth", acl=CREATOR_ALL_ACL)
    acl = owner.get_acls(path)[0][0]
    assert acl.id.scheme == "digest"
    assert acl.id.id.startswith("bob:")
    assert acl == make_digest_acl("bob", "pw", all=True)
    with pytest.raises(InvalidACLError):
        client.create(f"{root}/nobody", acl=CREATOR_ALL_ACL)


def test_set_acls(client, root, server, connected):
    path = client.create(f"{root}/s", b"x")
    stat = client.set_acls(path, [make_digest_acl("carol", "pw", read=True, admin=True)], version=0)
    assert stat.aversion == 1
    with pytest.raises(NoAuthError):
        client.get(path)
    carol = connected(server.host, auth_data=[("digest", "carol:pw")])
    assert carol.get(path)[0] == b"x"
    with pytest.raises(NoAuthError):
        carol.set(path, b"y")
    with pytest.raises(BadVersionError):
        carol.set_acls(path, OPEN_ACL_UNSAFE, version=0)
    carol.set_acls(path, OPEN_ACL_UNSAFE, version=1)
    client.set(path, b"y")


def test_acl_by_address(client, root):
    local = ACL(perms=31, id=Id("ip", "127.0.0.1"))
    elsewhere = ACL(perms=31, id=Id("ip", "10.0.0.0/8"))
    path = client.create(f"{root}/local", b"here", acl=[local])
    assert client.get(path)[0] == b"here"
    path = client.create(f"{root}/elsewhere", acl=[elsewhere])
    with pytest.raises(NoAuthError):
        client.get(path)


@pytest.mark.parametrize("acl", [ACL(31, Id("nonsense", "x")), ACL(31, Id("ip", "127.0.0.1/33"))])
def test_invalid_acl(client, root, acl):
    with pytest.raises(InvalidACLError):
        client.create(f"{root}/bad", acl=[acl])


# Transactions


def test_transaction(client, root):
    client.create(f"{root}/old")
    client.create(f"{root}/value", b"0")
    transaction = client.transaction()
    transaction.check(f"{root}/value", version=0)
    transaction.create(f"{root}/new", b"n")
    transaction.set_data(f"{root}/value", b"1")
    transaction.delete(f"{root}/old")
    transaction.create(f"{root}/new/seq-", sequence=True)
    checked, created, changed, deleted, numbered = transaction.commit()
    assert checked is True and deleted is True
    assert created == f"{root}/new"
    assert changed.version == 1
    assert numbered == f"{root}/new/seq-0000000000"
    # All members have the one zxid.
    zxids = {client.exists(f"{root}/new").czxid, client.exists(f"{root}/value").mzxid, client.exists(numbered).czxid}
    assert zxids == {changed.mzxid}
    assert sorted(client.get_children(root)) == ["new", "value"]


def test_transaction_rolls_back(client, root):
    client.create(f"{root}/value", b"0")
    transaction = client.transaction()
    transaction.create(f"{root}/new")
    transaction.set_data(f"{root}/value", b"1")
    transaction.check(f"{root}/value", version=99)
    transaction.delete(f"{root}/value")
    results = transaction.commit()
    assert [type(result) for result in results] == [
        RolledBackError,
        RolledBackError,
        BadVersionError,
        RuntimeInconsistency,
    ]
    assert client.get_children(root) == ["value"]
    data, stat = client.get(f"{root}/value")
    assert (data, stat.version) == (b"0", 0)


def test_transaction_sees_its_own_members(client, root):
    transaction = client.transaction()
    transaction.create(f"{root}/a")
    transaction.create(f"{root}/a/b", b"1")
    transaction.set_data(f"{root}/a/b", b"2", version=0)
    transaction.delete(f"{root}/a/b", version=1)
    transaction.delete(f"{root}/a")
    results = transaction.commit()
    assert not [result for result in results if isinstance(result, Exception)]
    assert client.get_children(root) == []


def test_empty_transaction(client):
    assert client.transaction().commit() == []
