"""Faults strike the messages that they were ordered for, as often as they were ordered."""

from local.fake_whatsapp.faults import Fault, FaultKind, Faults

PHONE, OTHER, CONTACT = "5511988887777", "5511977776666", "5511999990001"


def test_a_fault_strikes_as_often_as_it_was_ordered() -> None:
    faults = Faults()
    faults.order(Fault(FaultKind.NO_ACK, count=2))

    struck = [faults.take_for_message(PHONE, CONTACT) is not None for _ in range(3)]

    assert struck == [True, True, False]


def test_a_fault_for_one_session_or_contact_leaves_the_others_alone() -> None:
    faults = Faults()
    faults.order(Fault(FaultKind.NO_ACK, session_phone=PHONE))
    faults.order(Fault(FaultKind.ACK_ERROR, contact=CONTACT, code=463))

    assert faults.take_for_message(OTHER, OTHER) is None
    assert faults.take_for_message(OTHER, CONTACT) == Fault(FaultKind.ACK_ERROR, contact=CONTACT, code=463)
    assert faults.take_for_message(PHONE, CONTACT) == Fault(FaultKind.NO_ACK, session_phone=PHONE)


def test_faults_strike_in_the_order_of_their_orders() -> None:
    faults = Faults()
    faults.order(Fault(FaultKind.ACK_ERROR, code=503))
    faults.order(Fault(FaultKind.ACK_ERROR, code=429))

    codes = [fault.code for _ in range(2) if (fault := faults.take_for_message(PHONE, CONTACT))]

    assert codes == [503, 429]


def test_connections_are_refused_until_the_faults_are_cleared() -> None:
    faults = Faults()
    faults.order(Fault(FaultKind.REFUSE_CONNECTIONS))
    refused = [faults.stands(FaultKind.REFUSE_CONNECTIONS, phone) for phone in (None, PHONE)]

    faults.clear()

    assert refused == [True, True]
    assert not faults.stands(FaultKind.REFUSE_CONNECTIONS, None)


def test_one_session_can_be_refused_alone() -> None:
    faults = Faults()
    faults.order(Fault(FaultKind.REFUSE_CONNECTIONS, session_phone=PHONE))

    assert not faults.stands(FaultKind.REFUSE_CONNECTIONS, None)
    assert faults.stands(FaultKind.REFUSE_CONNECTIONS, PHONE)
    assert not faults.stands(FaultKind.REFUSE_CONNECTIONS, OTHER)
    assert faults.take_for_message(PHONE, CONTACT) is None
