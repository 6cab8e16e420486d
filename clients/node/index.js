'use strict';

const { Client } = require('./lib/client');
const { ReuseError } = require('./lib/error');

// As with PM2, the module is itself a client; whoever needs several makes them.
const client = new Client();

const api = { Client, ReuseError };
for (const name of Client.methods) api[name] = (...given) => client[name](...given);

module.exports = api;
