-- Until statistics come, the oldest blocked job of a chat was looked for among all that wait or are blocked in its queue, and sorted: a wrong campaign
-- of 10,000 in chats of ten held its group for over a second. Without sorts only the index of the blocked ones, which is in their order, is left.
ALTER FUNCTION ledger_settle_v1(ledger_move[]) SET enable_sort = off;
