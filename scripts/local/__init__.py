"""The whole system as local processes: private servers, generated secrets, all state in one folder."""
