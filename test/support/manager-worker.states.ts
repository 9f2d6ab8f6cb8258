import { State } from 'nestjs-state';

// The states of a ManagerWorker, for who wants to see in its own process what others have made of them.

/** Every turn leaves its id: what was stored, in which order, and whether twice, can be seen afterwards. */
@State('ledger')
export class LedgerState {
  count = 0;
  entries: string[] = [];
}

/** What one gives another one gets: over all accounts nothing is made and nothing lost. */
@State('account')
export class AccountState {
  balance = 0;
  turns = 0;
}
