'use strict';

// What went wrong, and what to do about it, in one message: PM2's users print `err.message` or the whole error.
class ReuseError extends Error {
  // `code`: 'failed', 'usage', 'not_found' or 'timeout', as in the answers of the controller; 'unreachable' when there is none.
  constructor(code, message, hint) {
    super(hint ? `${message} (${hint})` : message);
    this.name = 'ReuseError';
    this.code = code;
    this.hint = hint || '';
  }
}

module.exports = { ReuseError };
